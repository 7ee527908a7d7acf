// How fast the budgets are spent, for `holdfast budget status`.

import type { ForecastLine } from '../budget/forecast.ts'
import { formatAmount } from '../lib/amounts.ts'
import { table, type Cell } from './table.ts'
import { timeOf, type Style } from './text.ts'

/** A table of the budgets that are being spent; empty when none is. */
export function forecastText(lines: readonly ForecastLine[], style: Style): string {
  const rows = lines
    .filter(({ perHour = 0 }) => perHour > 0)
    .map(({ budget, dimension, perHour, exhaustedAtMs, sinceMs }): readonly Cell[] => [
      budget,
      dimension,
      formatAmount(dimension, perHour!),
      exhaustedAtMs === undefined ? ['dim', '-'] : ['yellow', timeOf(exhaustedAtMs)],
      timeOf(sinceMs),
    ])
  if (rows.length === 0) return ''
  const columns = [
    { title: 'budget' },
    { title: 'dimension' },
    { title: 'per hour', align: 'right' as const },
    { title: 'used up at' },
    { title: 'measured since' },
  ]
  return `${table(columns, rows, style)}\n`
}

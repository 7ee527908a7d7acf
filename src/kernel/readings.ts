// What a kernel says of the budgets of its store.

import { readForecast, type ForecastLine } from '../budget/forecast.ts'
import type { Ledger } from '../budget/ledger.ts'
import { readBudgets, type BudgetLine } from '../budget/report.ts'
import type { Store } from '../stores/store.ts'

/** What can be read. */
export interface Readings {
  /** What became of every budget, or of those at and below a path. */
  budgets(path?: string): Promise<readonly BudgetLine[]>
  /**
   * How fast every budget is spent, or those at and below a path, and when that would be all of it: by what all
   * processes have reported as spent since the oldest sample of the last hour, or of `lookBackMs`. Each line says since when
   * it measures. Kernels take a sample of the budgets that they use when they open, and every five minutes.
   *
   * What was moved to a handoff counts as spent when that is closed; a raise for a while counts as if it stayed.
   *
   * @throws {RangeError} For a `lookBackMs` below a minute or above a day.
   */
  forecast(path?: string, options?: { readonly lookBackMs?: number }): Promise<readonly ForecastLine[]>
}

/** Makes the readings of a kernel; `isOpen`: whether it has leases that could have something to report. */
export function createReadings(store: Store, ledger: Pick<Ledger, 'report'>, isOpen: () => boolean): Readings {
  const report = async (): Promise<void> => {
    if (isOpen()) await ledger.report()
  }
  return {
    async budgets(path) {
      await report()
      return readBudgets(store, path)
    },
    async forecast(path, { lookBackMs } = {}) {
      await report()
      return readForecast(store, path, lookBackMs)
    },
  }
}

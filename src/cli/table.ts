import { visible, widthOf, type Format, type Style } from './text.ts'

/** One cell: a text, or a text and its style. */
export type Cell = string | readonly [Format, string]

/** A column of a table; without a title in any column there is no header. */
export interface Column {
  readonly title?: string
  /** Numbers stand to the right. @default 'left' */
  readonly align?: 'left' | 'right'
}

const GAP = '  '

/** Writes rows under each other, every column as wide as its widest cell. Each line ends with a newline. */
export function table(columns: readonly Column[], rows: readonly (readonly Cell[])[], style: Style): string {
  const titles = columns.map(({ title }): Cell => ['bold', (title ?? '').toUpperCase()])
  const lines = columns.some(({ title }) => title !== undefined) ? [titles, ...rows] : rows
  const texts = lines.map((cells) => cells.map((cell) => visible(typeof cell === 'string' ? cell : cell[1])))
  const widths = columns.map((_, column) => texts.reduce((widest, cells) => Math.max(widest, widthOf(cells[column] ?? '')), 0))
  return lines
    .map((cells, row) => {
      const line = columns.map(({ align }, column) => {
        const text = texts[row]![column] ?? ''
        const cell = cells[column]
        const padding = ' '.repeat(widths[column]! - widthOf(text))
        // The last column is not padded, so that no line ends in white space.
        const after = column === columns.length - 1 ? '' : padding
        const styled = cell === undefined || typeof cell === 'string' || text === '' ? text : style(cell[0], text)
        return align === 'right' ? padding + styled : styled + after
      })
      return `${line.join(GAP).trimEnd()}\n`
    })
    .join('')
}

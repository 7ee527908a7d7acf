// A form in place of JSON, as the endpoints take it that work on files: what readers of requests see of it.

import { asFields, type Fields } from '../usage/disjoint.ts'

/** A file in a form: what is known of it without reading it to its end. */
export interface FormFile {
  readonly file: string
  /** Its MIME type as the caller declares it. */
  readonly type: string
  readonly bytes: number
  /** How long it can play at most, ms, where that can be told. */
  readonly longestMs?: number
}

/** Whether a value is a file of a form. */
export function isFormFile(value: unknown): value is FormFile {
  const fields = asFields(value)
  return typeof fields?.['file'] === 'string' && typeof fields['bytes'] === 'number' && typeof fields['type'] === 'string'
}

/** The longest that the audio files of a form can play together, ms; `undefined` where that cannot be told of one. */
export function longestMsOf(fields: Fields): number | undefined {
  const files = Object.values(fields).flat().filter(isFormFile)
  const lengths = files.flatMap(({ longestMs }) => longestMs ?? [])
  return files.length > 0 && lengths.length === files.length ? lengths.reduce((sum, ms) => sum + ms, 0) : undefined
}

/** Whether any field of a form is a file, or a list with one. */
export function hasFile(fields: Fields): boolean {
  return Object.values(fields).some((value) => (Array.isArray(value) ? value.some(isFormFile) : isFormFile(value)))
}

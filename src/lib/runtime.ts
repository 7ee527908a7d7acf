// Imported first by every entry: an old Node is told so, instead of failing somewhere inside.

const found = (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node
const [major = 0, minor = 0] = found?.split('.').map(Number) ?? []

if (found !== undefined && (major < 22 || (major === 22 && minor < 13))) {
  throw new Error(`holdfast needs Node.js 22.13 or later; this is ${found}. Install a newer Node.js: https://nodejs.org`)
}

// Tells fast-check where to begin, so that a commit tries the same histories wherever it is checked.

import * as fc from 'fast-check'

const seed = process.env['HOLDFAST_SEED']
if (seed !== undefined) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(seed) })

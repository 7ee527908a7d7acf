// The models that the bundled list knows, for people who look for one.

import { importList } from './import-list.ts'

/** A model of the list. */
export interface ListedModel {
  readonly provider: string
  readonly model: string
}

/**
 * All models of the bundled list, in its order; what `find` says of one may still be that it has no price.
 *
 * @throws {Error} When the package with the list is not installed.
 */
export async function listedModels(): Promise<readonly ListedModel[]> {
  const { waitForUpdate } = await importList()
  // Nothing is ever updated: a list that changes while it runs is not one that a record can name.
  const providers = (await waitForUpdate()) ?? []
  return providers.flatMap(({ id: provider, models }) => models.map(({ id }) => ({ provider, model: id })))
}

// What a bundler takes in the place of every entry when it builds for an edge runtime (conditions `edge-light`,
// `workerd`). Those have no file system and end a process without notice, so nothing that holdfast promises could be
// kept there; without this file the build would fail somewhere inside, for want of `node:fs`. It has every name that
// an entry has, so that it links; evaluating it says what to change.

const none = undefined as never

export {
  none as approvalOf,
  none as AuthGuardian,
  none as Blackboard,
  none as canonicalJson,
  none as CLAIMS,
  none as countCalls,
  none as fileStore,
  none as findRefusal,
  none as formatHandoff,
  none as formatUsd,
  none as guardAgent,
  none as guardEmbeddings,
  none as guardFetch,
  none as guardFunctions,
  none as guardGraph,
  none as guardHandoffTool,
  none as guardModel,
  none as guardModelProvider,
  none as guardProvider,
  none as guardRunner,
  none as guardRunnerFunctions,
  none as guardSettings,
  none as guardTools,
  none as handoffTool,
  none as holdfastCallbacks,
  none as holdfastEmbeddingMiddleware,
  none as HoldfastError,
  none as holdfastImageMiddleware,
  none as holdfastMiddleware,
  none as MAX_SEGMENT_BYTES,
  none as MAX_SEGMENT_LINES,
  none as memoryStore,
  none as migratePostgres,
  none as openKernel,
  none as parseHandoff,
  none as postgresStore,
  none as readBudgets,
  none as readForecast,
  none as readPrices,
  none as redisStore,
  none as Refusal,
  none as sharedKernel,
  none as sqliteStore,
  none as toNanoUsd,
  none as toolApproval,
  none as verifyAudit,
  none as verifyBackup,
  none as watchEscapes,
  none as wrapAnthropic,
  none as wrapOpenAI,
}

throw new Error(
  'holdfast runs on the Node.js runtime only; this bundle was built for an edge runtime, where no budget can be kept. ' +
    "Run this code on Node.js (in Next.js: export const runtime = 'nodejs'), or call a Node.js service that does.",
)

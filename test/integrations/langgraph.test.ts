// LangGraph: the suite on a compiled graph, of a model node with a retry policy and a tool node.

import { test } from 'vitest'
import { testIntegration } from '../../src/testing/integration-suite.ts'
import { LANGGRAPH, LANGGRAPH_MODEL } from './langgraph-bench.ts'

for (const adapter of [LANGGRAPH, LANGGRAPH_MODEL]) testIntegration(test.concurrent, adapter)

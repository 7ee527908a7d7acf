// A response with another body, which is otherwise the one that came.

/** The same response with another body. Its length and encoding are those of the body it had. */
export function responseWith(response: Response, body: string | ReadableStream<Uint8Array>): Response {
  const headers = new Headers(response.headers)
  headers.delete('content-length')
  headers.delete('content-encoding')
  const copy = new Response(response.body === null ? null : body, { status: response.status, statusText: response.statusText, headers })
  Object.defineProperty(copy, 'url', { value: response.url })
  return copy
}

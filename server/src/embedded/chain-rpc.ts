/** Calls a JSON-RPC method of the chain. Throws on an error answer, a broken connection and a time-out. */
export async function callRpc(
  url: string,
  method: string,
  params: unknown[] = [],
  timeoutMs = 30_000,
): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const answer: { result?: unknown; error?: { message?: string } } = JSON.parse(await response.text());
  if (answer.error) throw new Error(`${method}: ${(answer.error.message ?? 'unknown error').slice(0, 200)}`);
  return answer.result;
}

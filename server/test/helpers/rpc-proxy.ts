import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface RpcCall {
  id: number;
  method: string;
  params: unknown[];
}

/** What the proxy does with a request: alters an answer, or ends the exchange in its own way. */
export interface Behaviour {
  /** Runs before the request is passed on; true if it has dealt with it. */
  refuse?(calls: readonly RpcCall[], response: ServerResponse): boolean;
  /** The answer to give in the place of the node's. */
  alter?(call: RpcCall, result: unknown): unknown;
  /** True if the answer is never given, although the node has got the request. */
  swallow?(calls: readonly RpcCall[]): boolean;
}

/** A provider between us and a node, who may lie, stall or be down. */
export interface RpcProxy {
  url: string;
  behave(behaviour: Behaviour): void;
  close(): void;
}

export async function startRpcProxy(node: string): Promise<RpcProxy> {
  let current: Behaviour = {};
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
      const body = Buffer.concat(chunks).toString();
      const calls = JSON.parse(body) as RpcCall[];
      const { refuse, alter, swallow } = current;
      if (refuse?.(calls, response)) return;
      const headers = { 'content-type': 'application/json' };
      const answered = await fetch(node, { method: 'POST', headers, body });
      const answers = (await answered.json()) as { id: number; result?: unknown }[];
      if (swallow?.(calls)) return;
      const byId = new Map(calls.map((call) => [call.id, call]));
      const altered = answers.map((answer) => {
        const call = byId.get(answer.id);
        return call && alter && 'result' in answer
          ? { ...answer, result: alter(call, answer.result) }
          : answer;
      });
      response.end(JSON.stringify(altered));
    })();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    behave(behaviour) {
      current = behaviour;
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

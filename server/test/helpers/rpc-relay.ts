import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** What becomes of one HTTP request to the chain: passed on; carried out with its answer lost; or never answered. */
export type RpcFate = 'hold' | 'lose' | 'pass';

/** Stands between a program and its chain, and lets a test come between: a provider with its bad days. */
export interface RpcRelay {
  url: string;
  /** Decides from now on, by the methods that a request (a batch may have several) calls. */
  treat(rule: (methods: readonly string[]) => RpcFate): void;
  /** Nobody listens, and what was connected is cut. */
  down(): Promise<void>;
  /** Listens again at the same address; perhaps for another chain than before. */
  up(rpcUrl?: string): Promise<void>;
}

/** Starts one that passes everything on. `down` is its end too. */
export async function startRpcRelay(rpcUrl: string): Promise<RpcRelay> {
  let target = rpcUrl;
  let rule: ((methods: readonly string[]) => RpcFate) | undefined;
  let server: Server | undefined;

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request);
    const calls: { method: string } | { method: string }[] = JSON.parse(body);
    const fate = rule?.([calls].flat().map(({ method }) => method));
    if (fate === 'hold') return;
    const headers = { 'content-type': 'application/json' };
    const answer = await (await fetch(target, { method: 'POST', headers, body })).text();
    if (fate === 'lose') response.destroy();
    else response.writeHead(200, headers).end(answer);
  }

  async function listen(port: number): Promise<number> {
    server = createServer((request, response) => {
      serve(request, response).catch(() => response.destroy());
    }).listen(port, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  const port = await listen(0);
  return {
    url: `http://127.0.0.1:${port}`,
    treat(next) {
      rule = next;
    },
    async down() {
      if (!server?.listening) return;
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
    async up(next = target) {
      target = next;
      await listen(port);
    },
  };
}

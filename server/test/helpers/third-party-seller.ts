import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HTTPFacilitatorClient, x402HTTPResourceServer, x402ResourceServer } from '@x402/core/server';
import { ExactEvmScheme } from '@x402/evm/exact/server';
import type { Address } from 'viem';
import type { Instance } from './instance.ts';
import { network } from './payer.ts';

/** Somebody else's API that takes payments with the official server library, and has ours settle them. */
export interface ThirdPartySeller {
  url: string;
  /** How often its work was done. */
  runs(): number;
  close(): Promise<void>;
}

/** Starts it: `GET /paid` costs a cent, `GET /upfront` as well, settled before the work is done. */
export async function startThirdPartySeller(
  instance: Instance,
  args: { apiKey: string; payTo: Address },
): Promise<ThirdPartySeller> {
  const authorization = { Authorization: `Bearer ${args.apiKey}` };
  const facilitator = new HTTPFacilitatorClient({
    url: `${instance.info.api_url}/facilitator`,
    createAuthHeaders: async () => ({ verify: {}, settle: authorization, supported: {} }),
  });
  const accepts = { scheme: 'exact', network, price: '$0.01', payTo: args.payTo } as const;
  const routes = {
    'GET /paid': { accepts },
    'GET /upfront': { accepts: { ...accepts, extra: { paymentFlow: 'upfront' } } },
  };
  const paid = new x402HTTPResourceServer(
    new x402ResourceServer(facilitator).register(network, new ExactEvmScheme()),
    routes,
  );
  await paid.initialize();
  let runs = 0;
  const server = createServer((request, response) => {
    answer(paid, request, response, () => `run ${(runs += 1)}`).catch((error: unknown) => {
      response.writeHead(500).end(String(error));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    runs: () => runs,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** One request as the official middleware handles it: verify, work, settle, release. */
async function answer(
  paid: x402HTTPResourceServer,
  request: IncomingMessage,
  response: ServerResponse,
  work: () => string,
): Promise<void> {
  const path = request.url ?? '/';
  const method = request.method ?? 'GET';
  const headerOf = (name: string) => request.headers[name.toLowerCase()]?.toString();
  const context = {
    path,
    method,
    adapter: {
      getHeader: headerOf,
      getMethod: () => method,
      getPath: () => path,
      getUrl: () => `http://${request.headers.host}${path}`,
      getAcceptHeader: () => headerOf('accept') ?? '',
      getUserAgent: () => headerOf('user-agent') ?? '',
    },
  };
  const result = await paid.processHTTPRequest(context);
  if (result.type === 'payment-error') {
    const { status, headers, body } = result.response;
    response.writeHead(status, { ...headers, 'content-type': 'application/json' });
    response.end(JSON.stringify(body ?? {}));
    return;
  }
  const done = work();
  if (result.type === 'no-payment-required') throw new Error('each path is priced');
  const settled = await paid.processSettlement(
    result.paymentPayload,
    result.paymentRequirements,
    result.declaredExtensions,
    { request: context },
    undefined,
    result.beforeHandlerSettlement,
  );
  if (settled.success) response.writeHead(200, settled.headers).end(done);
  else response.writeHead(402, settled.headers).end('{}');
}

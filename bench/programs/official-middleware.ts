import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { x402ResourceServer } from '@x402/core/server';
import { ExactEvmScheme as ExactEvmServer } from '@x402/evm/exact/server';
import { paymentMiddleware } from '@x402/express';
import express from 'express';
import type { Address, Hex } from 'viem';
import { createOfficialFacilitator } from '../contenders/official-facilitator.ts';

// A seller's server as the middleware's own documentation builds it. The handler answers by itself, which is less work than
// to forward.
const { RPC_URL = '', RELAYER_KEY = '', PAY_TO = '', BODY = '' } = process.env;
const network = 'eip155:84532';

const facilitator = createOfficialFacilitator({ rpcUrl: RPC_URL, relayerKey: RELAYER_KEY as Hex });
const resourceServer = new x402ResourceServer({
  verify: (payload, terms) => facilitator.verify(payload, terms),
  settle: (payload, terms) => facilitator.settle(payload, terms),
  getSupported: async () => facilitator.getSupported() as Awaited<ReturnType<FacilitatorSupported>>,
}).register(network, new ExactEvmServer());

type FacilitatorSupported = ConstructorParameters<typeof x402ResourceServer>[0] extends infer Clients
  ? Extract<Clients, { getSupported: unknown }>['getSupported']
  : never;

const app = express();
app.use(
  paymentMiddleware(
    {
      'GET /paid': { accepts: { scheme: 'exact', price: '$0.01', network, payTo: PAY_TO as Address } },
    },
    resourceServer,
  ),
);
app.get('/paid', (_request, response) => {
  response.type('application/json').send(BODY);
});
const server = app.listen(0, '127.0.0.1');
await once(server, 'listening');
process.stdout.write(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}/paid\n`);

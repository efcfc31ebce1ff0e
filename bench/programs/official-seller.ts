import { once } from 'node:events';
import { HTTPFacilitatorClient, x402ResourceServer } from '@x402/core/server';
import { ExactEvmScheme } from '@x402/evm/exact/server';
import { paymentMiddleware } from '@x402/express';
import express, { type Request, type Response } from 'express';
import type { Address } from 'viem';

// A seller's server: the middleware before a handler that passes the call on, and a facilitator elsewhere.
const { FACILITATOR_URL = '', UPSTREAM_URL = '', PAY_TO = '', PORT = '' } = process.env;
const network = 'eip155:84532';

const facilitator = new HTTPFacilitatorClient({ url: FACILITATOR_URL });
const resourceServer = new x402ResourceServer(facilitator).register(network, new ExactEvmScheme());
const price = { scheme: 'exact', price: '$0.01', network, payTo: PAY_TO as Address } as const;

/** Passes each chunk on as it comes. It doesn't look whether the client is still there, as most handlers don't. */
async function passOn(request: Request, response: Response): Promise<void> {
  const answer = await fetch(`${UPSTREAM_URL}${request.path}`);
  const type = answer.headers.get('content-type') ?? 'text/plain';
  if (request.path === '/write-head') {
    response.writeHead(answer.status, { 'content-type': type });
  } else {
    response.statusCode = answer.status;
    response.setHeader('content-type', type);
  }
  for await (const chunk of answer.body ?? []) response.write(chunk);
  response.end();
}

const app = express();
app.use(
  paymentMiddleware(
    {
      'GET /paid': { accepts: price },
      'GET /other': { accepts: price },
      'GET /write-head': { accepts: price },
      'GET /upfront': { accepts: { ...price, extra: { paymentFlow: 'upfront' } } },
    },
    resourceServer,
  ),
);
for (const path of ['/paid', '/other', '/write-head', '/upfront'])
  app.get(path, (request, response) => void passOn(request, response));
await once(app.listen(Number(PORT), '127.0.0.1'), 'listening');
process.stdout.write(`listening on http://127.0.0.1:${PORT}\n`);

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import type { x402Facilitator } from '@x402/core/facilitator';
import type { Hex } from 'viem';
import { createOfficialFacilitator } from '../contenders/official-facilitator.ts';

/** The official facilitator behind HTTP, as its API is specified. */
export interface FacilitatorServer {
  url: string;
  /** What happens right after a settlement, before its answer goes out. The answer is lost where this says `lose`. */
  afterSettling(act: () => Promise<'answer' | 'lose'>): void;
  stop(): Promise<void>;
}

type Body =
  Parameters<x402Facilitator['settle']> extends [infer Payload, infer Requirements]
    ? { paymentPayload: Payload; paymentRequirements: Requirements }
    : never;

export async function startFacilitator(options: {
  rpcUrl: string;
  relayerKey: Hex;
  confirmationTimeoutMs?: number;
}): Promise<FacilitatorServer> {
  const facilitator = createOfficialFacilitator(options);
  let afterSettling: (() => Promise<'answer' | 'lose'>) | undefined;

  /** Nothing where the answer is lost. */
  async function answer(request: IncomingMessage): Promise<unknown> {
    if (request.url === '/supported') return facilitator.getSupported();
    const { paymentPayload, paymentRequirements } = (await json(request)) as Body;
    if (request.url === '/verify') return facilitator.verify(paymentPayload, paymentRequirements);
    const settled = await facilitator.settle(paymentPayload, paymentRequirements);
    return (await afterSettling?.()) === 'lose' ? undefined : settled;
  }

  const server = createServer((request, response) => {
    void answer(request).then((body) => {
      if (body === undefined) return response.destroy();
      return response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    afterSettling(act) {
      afterSettling = act;
    },
    stop: () => close(server),
  };
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

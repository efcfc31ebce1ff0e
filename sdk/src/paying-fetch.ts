import { type CredenceClient, unwrap } from './client.ts';
import type { paths } from './generated/api.ts';

/** A payment that the wallet has signed for one request. */
export type SignedPayment =
  paths['/v1/payments/x402']['post']['responses'][201]['content']['application/json'];

/** Who pays, under which mandate, and how it reaches the APIs it calls. */
export interface PayingFetchOptions {
  /** With the agent's jwt as its credential. */
  client: CredenceClient;
  mandateId: string;
  /** Sent as `X-Agent-ID`: the agent's id, or its jwt where a seller asks for proof. */
  agentId: string;
  fetch?: typeof fetch;
  /** Called with what is about to be paid, and with the payment: for logs and for people. */
  onSigned?: (signed: { terms: string; payment: SignedPayment }) => void;
}

/** How often one payment is sent before its request is given up: it is charged once, however often it is sent. */
const sendsMax = 3;
const pauseMs = 1_000;

/**
 * A `fetch` that pays: where an API answers 402, the wallet signs what it asks for within the mandate, and the request is
 * sent again with the payment. Throws `CredenceError` where the mandate doesn't allow it. A connection that breaks after the
 * payment was sent is tried again with the same payment, never with a second one.
 */
export function createPayingFetch(options: PayingFetchOptions): typeof fetch {
  const send = options.fetch ?? fetch;
  return async (input, init) => {
    const request = new Request(input, init);
    request.headers.set('x-agent-id', options.agentId);
    const first = await send(request.clone());
    const terms = first.headers.get('payment-required');
    if (first.status !== 402 || terms === null) return first;
    await first.body?.cancel();

    const body = { mandate_id: options.mandateId, payment_required: terms };
    const payment = await unwrap(options.client.POST('/v1/payments/x402', { body }));
    options.onSigned?.({ terms, payment });
    request.headers.set(payment.payment_header_name, payment.payment_header);
    return sendPaid(send, request);
  };
}

async function sendPaid(send: typeof fetch, request: Request): Promise<Response> {
  for (let sends = 1; ; sends += 1) {
    const last = sends === sendsMax;
    try {
      const response = await send(request.clone());
      if (last || !(await isPending(response))) return response;
    } catch (error) {
      // An abort is the caller's wish; anything else may have come after the payment had arrived.
      if (last || request.signal.aborted) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** The chain hasn't spoken yet: the same payment, sent again, waits for it. */
async function isPending(response: Response): Promise<boolean> {
  if (response.status !== 402) return false;
  const body: unknown = await response
    .clone()
    .json()
    .catch(() => null);
  return body !== null && typeof body === 'object' && 'code' in body && body.code === 'settlement_pending';
}

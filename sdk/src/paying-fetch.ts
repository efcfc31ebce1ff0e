import { type CredenceClient, unwrap } from './client.ts';
import type { paths } from './generated/api.ts';
import { readSettlement } from './settlement.ts';

/** A payment that the wallet has signed for one request. */
export type SignedPayment =
  paths['/v1/payments/x402']['post']['responses'][201]['content']['application/json'];

/** What a 402 asked for, as the wallet takes it: the header of x402 version 2, or the body of version 1. */
export type PaymentTerms =
  paths['/v1/payments/x402']['post']['requestBody']['content']['application/json']['payment_required'];

/** Who pays, under which mandate, and how it reaches the APIs it calls. */
export interface PayingFetchOptions {
  /** With the agent's jwt as its credential. */
  client: CredenceClient;
  mandateId: string;
  /** Sent as `X-Agent-ID`: the agent's id, or its jwt where a seller asks for proof. */
  agentId: string;
  fetch?: typeof fetch;
  /** Called with what is about to be paid, and with the payment: for logs and for people. */
  onSigned?: (signed: { terms: PaymentTerms; payment: SignedPayment }) => void;
}

/** How often a payment is sent over a connection that breaks: it is charged once, however often it is sent. */
const sendsMax = 3;
const pauseMs = 1_000;

/**
 * A `fetch` that pays: where an API answers 402, the wallet signs what it asks for within the mandate, and the request is
 * sent again with the payment. Throws `CredenceError` where the mandate doesn't allow it. Where the connection breaks after
 * the payment was sent, or its settlement is pending, the same payment is sent again, and never a second one.
 */
export function createPayingFetch(options: PayingFetchOptions): typeof fetch {
  const send = options.fetch ?? fetch;
  return async (input, init) => {
    const request = new Request(input, init);
    request.headers.set('x-agent-id', options.agentId);
    const first = await send(request.clone());
    const terms = await findTerms(first);
    if (terms === undefined) return first;
    await first.body?.cancel();

    const body = { mandate_id: options.mandateId, payment_required: terms };
    const payment = await unwrap(options.client.POST('/v1/payments/x402', { body }));
    options.onSigned?.({ terms, payment });
    request.headers.set(payment.payment_header_name, payment.payment_header);
    return sendPaid(send, request, Date.parse(payment.expires_at));
  };
}

/** Version 2 asks in a header, and version 1 in the body alone. A seller of both is paid by version 2. */
async function findTerms(response: Response): Promise<PaymentTerms | undefined> {
  if (response.status !== 402) return undefined;
  const header = response.headers.get('payment-required');
  if (header !== null) return header;
  const body: unknown = await response
    .clone()
    .json()
    .catch(() => null);
  const isV1 = body !== null && typeof body === 'object' && 'x402Version' in body && body.x402Version === 1;
  return isV1 ? (body as PaymentTerms) : undefined;
}

/** A pending settlement is waited for until the payment has expired: the chain can't take it after that. */
async function sendPaid(send: typeof fetch, request: Request, expiresAtMs: number): Promise<Response> {
  for (let breaks = 0; ;) {
    try {
      const response = await send(request.clone());
      if (!isPending(response) || Date.now() + pauseMs > expiresAtMs) return response;
      await response.body?.cancel();
    } catch (error) {
      // An abort is the caller's wish; anything else may have come after the payment had arrived.
      breaks += 1;
      if (breaks === sendsMax || request.signal.aborted) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** The chain hasn't spoken yet: the same payment, sent again, waits for it. */
function isPending(response: Response): boolean {
  return response.status === 402 && readSettlement(response.headers)?.errorReason === 'settlement_pending';
}

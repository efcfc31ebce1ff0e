import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Database } from '../db/index.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import type { AgentId } from '../kernel/ids.ts';
import {
  creditFacts,
  decodeAnyPayment,
  decodePaymentV1,
  exactFacts,
  findClaim,
  findListedPayment,
  mayFetch,
  networks,
  type PaymentFacts,
  presentToPayer,
  spellPayer,
} from '../x402/index.ts';
import { type Caller, identify } from './identify.ts';
import { sendJson } from './respond.ts';

/** Where a payer that lost its answer asks what became of its payment, without an account and without risking anything. */
export const statusPath = '/v1/payments/status';

/** The secret of the 402's `credence-retrieval` extension, where the payment itself isn't sent. */
const secretHeader = 'credence-terms-secret';

export interface StatusDeps {
  db: Database;
  clock: Clock;
  findAgent(token: string): Promise<AgentId | undefined>;
  isOurCredential(value: string): boolean;
}

/** What is asked for: the payment itself, or what names it. */
interface Asked {
  key: Pick<PaymentFacts, 'asset' | 'network' | 'nonce' | 'payer'>;
  signature: string | undefined;
  termsSecret: string | null;
}

/**
 * Answers for a payment that was claimed here, to whoever may have its answer (rule d): its authorisation is public on the chain
 * once it is settled, so that knowing it shows nothing. Anyone else, and anything else, is 404.
 */
export async function sendPaymentStatus(
  deps: StatusDeps,
  request: IncomingMessage,
  response: ServerResponse,
  clientAddress: string,
): Promise<void> {
  const { key, signature, termsSecret } = readAsked(request);
  const caller = await findCaller(deps, request);
  const claim = await findClaim(deps.db, key);
  const now = deps.clock.now();
  const presenter = {
    agentId: caller?.agentId ?? '',
    agentVerified: caller?.verified ?? false,
    clientAddress,
    termsSecret,
  };
  const isTheirs =
    claim !== undefined &&
    (signature === undefined || signature === claim.payment.signature) &&
    mayFetch(claim.payment, presenter, now);
  const listed = isTheirs ? await findListedPayment(deps.db, claim.payment) : undefined;
  if (!listed)
    throw new AppError(
      'not_found',
      'No such payment was presented here by you: show the payment as it was sent, with the secret of its terms or the same X-Agent-ID',
    );
  sendJson(response, 200, 'application/json', presentToPayer(listed, now));
}

/** Throws `invalid_payment`, or `invalid_request` where nothing names a payment. */
function readAsked(request: IncomingMessage): Asked {
  const v2 = request.headersDistinct['payment-signature'] ?? [];
  const v1 = request.headersDistinct['x-payment'] ?? [];
  const [value] = [...v2, ...v1];
  if (v1.length + v2.length > 1)
    throw new AppError('invalid_payment', 'Send one payment header, not several');
  if (value === undefined) return readQuery(request);
  const sent = v2.length === 1 ? decodeAnyPayment(value) : readV1(value);
  const { signature, ...key } = 'credit' in sent ? creditFacts(sent.credit) : exactFacts(sent);
  return { key, signature, termsSecret: sent.termsSecret };
}

/** A payment of version 1 doesn't say which token it is in: each network has one here. */
function readV1(header: string) {
  const sent = decodePaymentV1(header, { asset: networks.sandbox.asset.address });
  const network = Object.values(networks).find(({ id }) => id === sent.network);
  return network ? { ...sent, asset: network.asset.address } : sent;
}

function readQuery(request: IncomingMessage): Asked {
  const query = new URLSearchParams(request.url?.split('?')[1] ?? '');
  const read = (name: string) => {
    const value = query.get(name) ?? '';
    if (value.length > 0 && value.length <= 200 && /^[\x21-\x7e]+$/.test(value)) return value;
    throw new AppError(
      'invalid_request',
      `Send the payment header again, or name the payment: ?network&asset&payer&nonce (${name} is missing or not valid)`,
    );
  };
  const secret = request.headers[secretHeader];
  const nonce = read('nonce');
  return {
    key: {
      network: read('network'),
      asset: spellPayer(read('asset')),
      payer: spellPayer(read('payer')),
      nonce: /^0x[0-9a-fA-F]{64}$/.test(nonce) ? nonce.toLowerCase() : nonce,
    },
    signature: undefined,
    termsSecret: typeof secret === 'string' && secret.length <= 128 ? secret : null,
  };
}

/** Who asks, where that is said: a payer that has the terms' secret needs no name. */
async function findCaller(deps: StatusDeps, request: IncomingMessage): Promise<Caller | undefined> {
  const header = request.headers['x-agent-id'];
  return header === undefined ? undefined : identify(header, deps.findAgent, deps.isOurCredential);
}

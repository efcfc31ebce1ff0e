import { setTimeout as sleep } from 'node:timers/promises';
import type { Hex } from 'viem';
import { type Agent, getMandate, registerAgent } from '../helpers/agent.ts';
import { askTerms, authorizationOf, decode, encode, newPayer } from '../helpers/payer.ts';
import { type Answer, send } from '../helpers/request.ts';
import { callApi, price, sell } from '../helpers/seller.ts';
import type { Database } from '../../src/db/index.ts';
import { registerCreditKey } from '../../src/wallet/index.ts';
import { newBuyer } from '../helpers/credits.ts';
import { testContext } from '../helpers/database.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';
import { type Fleet, type Member } from './fleet.ts';

/**
 * What is bought: a kept answer or a stream, settled before its release, behind it, or first; an upstream that fails then; either of them for
 * credits, and an upstream that fails.
 */
export type Order =
  | 'broken'
  | 'credits'
  | 'credits-stream'
  | 'optimistic'
  | 'optimistic-stream'
  | 'refund'
  | 'stream'
  | 'upfront'
  | 'upfront-stream'
  | 'whole';
/** Whose money it is: a stranger's, a wallet's here, whose budget has a hold, or an environment's credits. */
export type Buyer = 'credits' | 'stranger' | 'wallet';

/** One payment and the request that it pays for. */
export interface Purchase {
  order: Order;
  buyer: Buyer;
  /** Below any gateway. */
  path: string;
  /** As it is sent, each time. */
  header: string;
  /** An address, or the environment whose credits pay. */
  payer: string;
  nonce: string;
  /** What the buyer had. Only a wallet has other payments. */
  funds: bigint;
  /** Every answer that came whole. */
  answers: Answer[];
}

const funds = 10n * price;
const slugs: Record<Order, string> = {
  whole: 'whole',
  stream: 'whole',
  optimistic: 'behind',
  'optimistic-stream': 'behind',
  upfront: 'first',
  'upfront-stream': 'first',
  refund: 'first',
  credits: 'hosted',
  'credits-stream': 'hosted',
  broken: 'hosted',
};

/** A seller's APIs before one upstream, which does what the request's own query asks for. */
export interface Market {
  upstream: Upstream;
  /** From now on the upstream answers no request that it hasn't seen before. */
  hold(): void;
  /** And now it does again. */
  release(): void;
  /** A new payment, signed for terms that this gateway gave out. */
  sign(at: Member, order: Order, buyer: Buyer): Promise<Purchase>;
  /** How often the upstream was asked for this one. */
  runsOf(purchase: Purchase): number;
}

export async function openMarket({ control }: Fleet, rpcUrl: string, db: Database): Promise<Market> {
  let held = false;
  const upstream = await startUpstream((request, response) => {
    const query = new URL(request.url ?? '', 'http://upstream').searchParams;
    const order = query.get('order');
    const runs = upstream.requests.filter(({ url }) => url === request.url).length;
    if (held && runs === 1) return;
    if (order === 'refund' || order === 'broken') response.writeHead(500).end('broken');
    else if (order?.endsWith('stream'))
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end(bodyOf(query.get('n')));
    else response.end(bodyOf(query.get('n')));
  });
  await sell(control, upstream.url, 'whole');
  await sell(control, upstream.url, 'behind', { settlement: 'optimistic' });
  await sell(control, upstream.url, 'first', { settlement: 'upfront', hosted: true });
  await sell(control, upstream.url, 'hosted', { hosted: true });
  const agent = await registerAgent(control);
  const mandateId = await getMandate(control, agent, { limitAmount: String(10_000n * price) });
  let count = 0;

  return {
    upstream,
    hold() {
      held = true;
    },
    release() {
      held = false;
    },
    async sign(at, order, buyer) {
      count += 1;
      const path = `/api/${slugs[order]}/paid?order=${order}&n=${count}`;
      if (buyer === 'credits')
        return { order, buyer, path, funds, answers: [], ...(await signCredits(db, `${at.url}${path}`)) };
      const terms = await askTerms(`${at.url}${path}`);
      const header =
        buyer === 'wallet'
          ? await signByWallet(control, agent, mandateId, terms)
          : encode(await (await newPayer({ info: { rpc_url: rpcUrl } }, funds)).pay(terms));
      const { from: payer, nonce } = authorizationOf(decode(header));
      return { order, buyer, path, header, payer, nonce, funds, answers: [] };
    },
    runsOf: ({ path }) => {
      const query = path.slice(path.indexOf('?'));
      return upstream.requests.filter(({ url }) => url.endsWith(query)).length;
    },
  };
}

/** A payment of an environment that nobody else pays from. */
async function signCredits(db: Database, url: string): Promise<Pick<Purchase, 'header' | 'nonce' | 'payer'>> {
  const buyer = await newBuyer(db, { credits: funds });
  const context = testContext(db, { scope: buyer.environmentId });
  await registerCreditKey(context, buyer.environmentId, { jwk: { ...buyer.jwk }, name: 'a test' });
  const nonce = crypto.randomUUID();
  const exp = Math.floor(Date.now() / 1000) + 1_800;
  const header = await buyer.pay(url, { claims: { jti: nonce, exp } });
  return { header, nonce, payer: buyer.environmentId };
}

async function signByWallet(
  control: Fleet['control'],
  agent: Agent,
  mandateId: string,
  terms: unknown,
): Promise<string> {
  const body = { mandate_id: mandateId, payment_required: terms };
  const signed = await callApi(control, '/v1/payments/x402', { body, credential: agent.jwt });
  if (signed.status !== 201) throw new Error(`not signed: ${signed.text}`);
  return signed.json().payment_header;
}

/** What the upstream gives for it, each time. */
export function expectedBody(purchase: Purchase): string {
  return bodyOf(new URL(purchase.path, 'http://gateway').searchParams.get('n'));
}

function bodyOf(n: string | null): string {
  return `data: what ${n} paid for\n\n`;
}

/** Sends the payment with its request, once; nothing where the connection broke. */
export async function pay(at: Member, purchase: Purchase): Promise<Answer | undefined> {
  const headers = { 'x-agent-id': 'a-buyer', 'payment-signature': purchase.header };
  const answer = await send(`${at.url}${purchase.path}`, { headers }).catch(() => undefined);
  if (answer) purchase.answers.push(answer);
  return answer;
}

/** Who can buy it: what is paid first is paid to our wallet, which doesn't pay itself. */
export function buyersOf(order: Order): Buyer[] {
  if (order.startsWith('credits') || order === 'broken') return ['credits'];
  return order.startsWith('upfront') || order === 'refund' ? ['stranger'] : ['stranger', 'wallet'];
}

const patienceMs = 30_000;

/** Sends it again, as a client does, until the answer isn't that one should ask again. */
export async function payUntilAnswered(at: Member, purchase: Purchase): Promise<Answer> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const answer = await pay(at, purchase);
    if (answer && !isForNow(answer)) return answer;
    if (Date.now() > deadline)
      throw new Error(`still ${answer?.status} ${answer?.text} for ${purchase.path}`);
    await sleep(100);
  }
}

function isForNow(answer: Answer): boolean {
  if (answer.status === 503) return true;
  const isOurs = answer.status === 402 || answer.status === 409;
  return (
    isOurs && answer.text !== '' && ['payment_in_flight', 'settlement_pending'].includes(answer.json().code)
  );
}

export function nonceOf(purchase: Purchase): Hex {
  return purchase.nonce as Hex;
}

import { setTimeout as sleep } from 'node:timers/promises';
import { type Address, createPublicClient, getAddress, http, parseAbiItem } from 'viem';
import type { Database } from '../../src/db/index.ts';
import type { EnvironmentId } from '../../src/kernel/ids.ts';
import { balanceOf } from '../../src/ledger/index.ts';
import { networks } from '../../src/x402/index.ts';
import { openChain } from '../helpers/payer.ts';
import { price } from '../helpers/seller.ts';
import type { Fleet, Member } from './fleet.ts';
import { expectedBody, type Market, nonceOf, pay, type Purchase } from './purchases.ts';

/** How a payment stands: what its row says, and nothing before it was claimed. */
interface Standing {
  id: string;
  mode: string;
  state: string;
  delivery: string | null;
  replayable: boolean;
}

/** What happened to a purchase, as chain, database and upstream tell it independently of each other. */
interface Account {
  standing: Standing | undefined;
  /** How often the chain moved its money, and how often it moved back. */
  charges: number;
  refunds: number;
  runs: number;
}

export interface Oracle {
  /** State and delivery, as its row says; `nothing` before it was claimed. */
  describe(purchase: Purchase): Promise<string>;
  /** The same with how often the upstream ran, and how often the chain moved the money, and back. */
  describeEnd(purchase: Purchase): Promise<string>;
  /** Keeps workers from what is answered and not settled yet, until it is aged: a machine under load takes its time over the others. */
  keep(purchase: Purchase): Promise<void>;
  /** Makes the leases and patience of processes that are gone run out now, for this purchase alone. */
  age(purchase: Purchase): Promise<void>;
  /** Resolves when nothing about it is under way any more; ages what waits for a time to pass. */
  settleDown(purchase: Purchase): Promise<void>;
  /** Every rule that this purchase breaks, whatever happened to it. The answer is asked for at this gateway. */
  findFaults(purchase: Purchase, at: Member): Promise<string[]>;
  /** What stays of all: holds, claims, transactions and deliveries that nobody ends. */
  findRemains(): Promise<string[]>;
}

const patienceMs = 40_000;
const lookMs = 5_000;
const token = networks.sandbox.asset.address;
const authorizationUsed = parseAbiItem(
  'event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)',
);

export function openOracle(db: Database, rpcUrl: string, market: Market, workers: Fleet['workers']): Oracle {
  const client = createPublicClient({ transport: http(rpcUrl), cacheTime: 0 });
  let looking: Promise<void> = Promise.resolve();
  let looksNext: Promise<void> | undefined;
  const chain = openChain({ info: { rpc_url: rpcUrl } });

  async function countUses(authorizer: Address, nonce: `0x${string}`): Promise<number> {
    const args = { authorizer, nonce };
    return (await client.getLogs({ address: token, event: authorizationUsed, args, fromBlock: 0n })).length;
  }

  /** How often its money has gone, as the chain says it, or the ledger. */
  async function countCharges(purchase: Purchase, standing: Standing | undefined): Promise<number> {
    if (purchase.buyer !== 'credits') return countUses(getAddress(purchase.payer), nonceOf(purchase));
    const posted = await db.query(
      `SELECT 1 FROM ledger_resolutions WHERE environment_id = $1 AND key LIKE $2 AND outcome = 'posted'`,
      [purchase.payer, `${standing?.id}/%`],
    );
    return posted.length;
  }

  /** What a buyer without other payments has given for it. */
  async function findSpent({ buyer, payer, funds }: Purchase): Promise<bigint> {
    if (buyer !== 'credits') return funds - (await chain.balanceOf(getAddress(payer)));
    const account = {
      environmentId: payer as EnvironmentId,
      kind: 'available',
      currency: 'USDC.sandbox',
    } as const;
    const { balance, held } = await balanceOf(db, account);
    return funds - balance + held;
  }

  async function standingOf(purchase: Purchase): Promise<Standing | undefined> {
    const [row] = await db.query<Standing>(
      `SELECT p.id, p.mode, p.state, p.delivery, p.replayable FROM payment_claims c JOIN payments p ON p.id = c.payment_id
       WHERE c.nonce = $1`,
      [nonceOf(purchase)],
    );
    return row;
  }

  async function refundsOf(
    standing: Standing | undefined,
  ): Promise<{ payer: string; nonce: string; state: string }[]> {
    return db.query('SELECT payer, nonce, state FROM payments WHERE refund_of = $1', [standing?.id ?? null]);
  }

  async function keep(purchase: Purchase): Promise<void> {
    // Who stands in a transaction may have its row, and then no worker takes it either.
    await db.query(
      `UPDATE payments SET updated_at = now() + interval '1 hour' WHERE (environment_id, id) IN (
         SELECT environment_id, id FROM payments WHERE nonce = $1 AND state = 'responded' FOR UPDATE SKIP LOCKED)`,
      [nonceOf(purchase)],
    );
  }

  async function age(purchase: Purchase): Promise<void> {
    const standing = await standingOf(purchase);
    if (!standing) return;
    await db.query(
      `UPDATE payments SET updated_at = updated_at - interval '1 hour', settled_at = settled_at - interval '1 hour',
         lease_until = lease_until - interval '1 hour'
       WHERE id = $1 OR refund_of = $1`,
      [standing.id],
    );
    await db.query(
      `UPDATE settlement_transactions t SET lease_until = t.lease_until - interval '1 hour'
       FROM settlement_items i JOIN payments p ON p.id = i.payment_id
       WHERE (t.network, t.relayer, t.relayer_nonce) = (i.network, i.relayer, i.relayer_nonce) AND t.state = 'sent'
         AND (p.id = $1 OR p.refund_of = $1)`,
      [standing.id],
    );
  }

  async function isUnderWay(purchase: Purchase, standing: Standing): Promise<boolean> {
    if (['forwarding', 'responded', 'settling'].includes(standing.state)) return true;
    // A stream that waited with its process is owed once its lease is over, for as long as somebody may come.
    const isUndelivered = standing.delivery === 'owed' || standing.delivery === 'running';
    if (standing.mode === 'upfront' && standing.state === 'settled' && isUndelivered) return true;
    const refunds = await refundsOf(standing);
    if (refunds.some(({ state }) => state !== 'settled')) return true;
    return (
      purchase.buyer === 'wallet' && standing.state === 'settled' && (await findHold(purchase)) === 'held'
    );
  }

  async function findHold(purchase: Purchase): Promise<string | undefined> {
    const [row] = await db.query<{ state: string }>(
      'SELECT h.state FROM outgoing_payments o JOIN holds h ON h.id = o.hold_id WHERE o.nonce = $1',
      [nonceOf(purchase)],
    );
    return row?.state;
  }

  /** What is paid and not delivered is looked for every half a minute, and at the start of a worker; once for all who wait for it. */
  function lookForUndelivered(): Promise<void> {
    looksNext ??= looking.then(async () => {
      await sleep(300);
      looksNext = undefined;
      looking = restartForUndelivered();
      await looking;
    });
    return looksNext;
  }

  async function restartForUndelivered(): Promise<void> {
    const [, worker] = workers;
    await worker.kill();
    await worker.start();
    for (const deadline = Date.now() + lookMs; Date.now() < deadline; await sleep(50)) {
      const rows = await db.query(
        `SELECT 1 FROM payments WHERE mode = 'upfront' AND delivery IN ('owed', 'running') AND settled_at < now() - interval '30 minutes'`,
      );
      if (rows.length === 0) return;
    }
  }

  async function settleDown(purchase: Purchase): Promise<void> {
    const deadline = Date.now() + patienceMs;
    let isWoken = false;
    for (;;) {
      const standing = await standingOf(purchase);
      if (!standing || !(await isUnderWay(purchase, standing))) return;
      if (Date.now() > deadline)
        throw new Error(
          `stays as it is for ever: ${purchase.path} ${JSON.stringify(standing)}\n${workers.map((worker) => worker.output()).join('\n')}`,
        );
      await age(purchase);
      if (!isWoken && standing.state === 'settled' && standing.mode === 'upfront') {
        isWoken = true;
        await lookForUndelivered();
      }
      await sleep(150);
    }
  }

  async function accountOf(purchase: Purchase): Promise<Account> {
    const standing = await standingOf(purchase);
    const refunds = await refundsOf(standing);
    const given = await Promise.all(
      refunds.map(({ payer, nonce }) => countUses(payer as Address, nonce as `0x${string}`)),
    );
    return {
      standing,
      charges: await countCharges(purchase, standing),
      refunds: given.reduce((sum, count) => sum + count, 0),
      runs: market.runsOf(purchase),
    };
  }

  async function describeEnd(purchase: Purchase): Promise<string> {
    const { standing, runs, charges, refunds } = await accountOf(purchase);
    const returned = refunds > 0 ? `, returned ${refunds}` : '';
    return `${describeStanding(standing)}, ${runs} ${runs === 1 ? 'run' : 'runs'}, charged ${charges}${returned}`;
  }

  async function findFaults(purchase: Purchase, at: Member): Promise<string[]> {
    const { standing, charges, refunds, runs } = await accountOf(purchase);
    const faults: string[] = [];
    const demand = (holds: boolean, rule: string) => {
      if (!holds) faults.push(`${purchase.order} for ${purchase.buyer}: ${rule}`);
    };
    const isSettled = standing?.state === 'settled';
    demand(charges <= 1, `charged ${charges} times`);
    demand((charges === 1) === isSettled, `the chain says ${charges}, the database ${standing?.state}`);
    demand(
      refunds === (standing?.delivery === 'refunded' ? 1 : 0),
      `${refunds} refunds, ${standing?.delivery}`,
    );
    demand(
      !standing || !(await isUnderWay(purchase, standing)),
      `still ${standing?.state} ${standing?.delivery}`,
    );
    const [told] = await db.query<{ times: bigint }>(
      `SELECT count(*) FILTER (WHERE action = 'payment.settled')
         - count(*) FILTER (WHERE action = 'payment.settlement_undone') AS times FROM audit_events WHERE resource = $1`,
      [standing?.id ?? null],
    );
    demand(told?.times === BigInt(charges), `told ${told?.times} times`);
    const answered = purchase.answers.filter(({ status }) => status === 200);
    demand(answered.length === 0 || charges === 1, 'answered and not charged');
    demand(
      answered.every(({ text }) => text === expectedBody(purchase)),
      'answered with something else',
    );
    if (purchase.buyer !== 'wallet') {
      const spent = await findSpent(purchase);
      demand(spent === price * BigInt(charges - refunds), `${spent} are gone`);
    } else if (isSettled) {
      demand((await findHold(purchase)) === 'captured', 'its hold is not captured');
    }
    if (isSettled && standing.replayable && (standing.delivery === null || standing.delivery === 'done')) {
      const fetched = await pay(at, purchase);
      demand(
        fetched?.text === expectedBody(purchase),
        `charged, and fetched ${fetched?.status} ${fetched?.text}`,
      );
      demand(market.runsOf(purchase) === runs, 'run again to be fetched');
    }
    return faults;
  }

  async function findRemains(): Promise<string[]> {
    const rows = await db.query<{ what: string }>(
      `SELECT 'payment ' || id || ' ' || state AS what FROM payments WHERE state IN ('forwarding', 'responded', 'settling')
       UNION ALL SELECT 'delivery ' || id FROM payments WHERE delivery IN ('owed', 'running') AND mode = 'upfront'
       UNION ALL SELECT 'transaction ' || relayer_nonce FROM settlement_transactions WHERE state = 'sent'
       UNION ALL SELECT 'hold ' || id FROM holds WHERE state = 'held'
       UNION ALL SELECT 'outgoing payment ' || id FROM outgoing_payments WHERE state = 'signed'
       UNION ALL SELECT 'ledger ' || rule FROM ledger_discrepancies()
       UNION ALL SELECT 'reservation ' || key FROM ledger_transfers t WHERE two_phase AND NOT EXISTS (
         SELECT 1 FROM ledger_resolutions r WHERE r.environment_id = t.environment_id AND r.key = t.key)
       UNION ALL SELECT 'outbox ' || id FROM outbox WHERE topic LIKE 'payment.settle%'`,
    );
    return rows.map(({ what }) => what);
  }

  const describe = async (purchase: Purchase) => describeStanding(await standingOf(purchase));
  return { describe, describeEnd, keep, age, settleDown, findFaults, findRemains };
}

function describeStanding(standing: Standing | undefined): string {
  if (!standing) return 'nothing';
  return standing.delivery === null ? standing.state : `${standing.state} ${standing.delivery}`;
}

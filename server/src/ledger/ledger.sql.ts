import type { Scope, Sql, Transaction } from '../db/index.ts';
import { accountKey, type Book, type Plan, transferKey } from './plan-transfers.ts';
import type {
  Account,
  AccountKind,
  Balance,
  Movement,
  Resolution,
  Transfer,
  TransferName,
} from './transfer.ts';

/** Looked up one by one: `OFFSET 0` keeps the planner from reading the whole table for a batch. */
const oneTransfer =
  'SELECT * FROM ledger_transfers o WHERE o.environment_id = n.environment_id AND o.key = n.key OFFSET 0';

/**
 * Locks these accounts, and those of the transfers named, in the order of their keys, until the transaction ends.
 * What is read after it is newer than every change that it waited for.
 */
export async function lockAccounts(
  sql: Sql,
  accounts: readonly Account[],
  transfers: readonly TransferName[],
): Promise<Book['accounts']> {
  const rows = await sql.query<Account & Balance>(
    `SELECT environment_id, kind, currency, balance, held FROM ledger_accounts
     WHERE (environment_id, kind, currency) IN (
       SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
       UNION
       SELECT a.environment_id, a.kind, t.currency
       FROM unnest($4::text[], $5::text[]) AS n (environment_id, key)
       CROSS JOIN LATERAL (${oneTransfer}) t
       CROSS JOIN LATERAL (VALUES (t.environment_id, t.debit_kind), (t.credit_environment_id, t.credit_kind))
         AS a (environment_id, kind)
     )
     ORDER BY environment_id, kind, currency FOR NO KEY UPDATE`,
    [...accountColumns(accounts), ...nameColumns(transfers)],
  );
  return new Map(rows.map(({ balance, held, ...account }) => [accountKey(account), { balance, held }]));
}

/** The transfers of these names that there are, by `transferKey`. */
export async function findTransfers(
  sql: Sql,
  names: readonly TransferName[],
): Promise<Map<string, Transfer>> {
  const rows = await sql.query<TransferRow>(
    `SELECT t.environment_id, t.key, t.debit_kind, t.credit_environment_id, t.credit_kind, t.currency, t.amount, t.two_phase,
       r.outcome, r.amount AS resolved_amount
     FROM unnest($1::text[], $2::text[]) AS n (environment_id, key)
     CROSS JOIN LATERAL (${oneTransfer}) t
     LEFT JOIN LATERAL (
       SELECT * FROM ledger_resolutions o WHERE o.environment_id = n.environment_id AND o.key = n.key OFFSET 0
     ) r ON true`,
    nameColumns(names),
  );
  return new Map(rows.map((row) => [transferKey(row), toTransfer(row)]));
}

interface TransferRow extends TransferName, Pick<Transfer, 'amount' | 'currency' | 'twoPhase'> {
  debitKind: AccountKind;
  creditEnvironmentId: Scope;
  creditKind: AccountKind;
  outcome: Resolution['outcome'] | null;
  resolvedAmount: bigint | null;
}

function toTransfer(row: TransferRow): Transfer {
  const { key, currency, amount, twoPhase, outcome, resolvedAmount } = row;
  return {
    key,
    debit: { environmentId: row.environmentId, kind: row.debitKind },
    credit: { environmentId: row.creditEnvironmentId, kind: row.creditKind },
    currency,
    amount,
    twoPhase,
    resolution: outcome === null ? null : { outcome, amount: resolvedAmount ?? 0n },
  };
}

/** Writes a plan in one statement. `locked` are the accounts that the plan was made on. */
export function insertPlan(sql: Transaction, plan: Plan, locked: Book['accounts'], now: Date): void {
  const changes = [...plan.changes.entries()];
  const changed = changes.filter(([key]) => locked.has(key)).map(([, account]) => account);
  // An account that wasn't there only grows, or has no limit, so that a row that came meanwhile is added to.
  const opened = changes.filter(([key]) => !locked.has(key)).map(([, account]) => account);
  sql.send(
    `WITH transfers AS (
       INSERT INTO ledger_transfers (environment_id, debit_kind, credit_environment_id, credit_kind, currency, key,
         amount, two_phase, created_at)
       SELECT *, $1 FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::numeric[], $9::boolean[])
     ), resolutions AS (
       INSERT INTO ledger_resolutions (environment_id, key, outcome, amount, created_at)
       SELECT *, $1 FROM unnest($10::text[], $11::text[], $12::text[], $13::numeric[])
     ), opened AS (
       INSERT INTO ledger_accounts AS a (environment_id, kind, currency, balance, held, created_at)
       SELECT *, $1 FROM unnest($14::text[], $15::text[], $16::text[], $17::numeric[], $18::numeric[])
       ORDER BY 1, 2, 3
       ON CONFLICT (environment_id, kind, currency)
         DO UPDATE SET balance = a.balance + excluded.balance, held = a.held + excluded.held
     )
     UPDATE ledger_accounts a SET balance = a.balance + c.balance, held = a.held + c.held
     FROM unnest($19::text[], $20::text[], $21::text[], $22::numeric[], $23::numeric[])
       AS c (environment_id, kind, currency, balance, held)
     WHERE (a.environment_id, a.kind, a.currency) = (c.environment_id, c.kind, c.currency)`,
    [
      now,
      ...movementColumns(plan.transfers),
      plan.transfers.map(({ twoPhase }) => twoPhase),
      ...nameColumns(plan.resolutions),
      plan.resolutions.map(({ outcome }) => outcome),
      plan.resolutions.map(({ amount }) => amount),
      ...balanceColumns(opened),
      ...balanceColumns(changed),
    ],
  );
}

/** What an account holds; nothing where it was never credited. */
export async function balanceOf(sql: Sql, account: Account): Promise<Balance> {
  const [row] = await sql.query<Balance>(
    'SELECT balance, held FROM ledger_accounts WHERE environment_id = $1 AND kind = $2 AND currency = $3',
    [account.environmentId, account.kind, account.currency],
  );
  return row ?? { balance: 0n, held: 0n };
}

export interface Discrepancy {
  rule: string;
  /** `null` where the rule is about a whole currency. */
  environmentId: Scope | null;
  kind: AccountKind | null;
  currency: string | null;
  expected: bigint;
  found: bigint;
}

/** Invariant 5, over the whole ledger at one moment: nothing, where the books are right. Reads every transfer. */
export async function findDiscrepancies(sql: Sql): Promise<Discrepancy[]> {
  return sql.query<Discrepancy>('SELECT * FROM ledger_discrepancies()');
}

function nameColumns(names: readonly TransferName[]): unknown[][] {
  return [names.map(({ environmentId }) => environmentId), names.map(({ key }) => key)];
}

function accountColumns(accounts: readonly Account[]): unknown[][] {
  return [
    accounts.map(({ environmentId }) => environmentId),
    accounts.map(({ kind }) => kind),
    accounts.map(({ currency }) => currency),
  ];
}

function balanceColumns(accounts: readonly (Account & Balance)[]): unknown[][] {
  return [
    ...accountColumns(accounts),
    accounts.map(({ balance }) => balance),
    accounts.map(({ held }) => held),
  ];
}

function movementColumns(movements: readonly Movement[]): unknown[][] {
  return [
    movements.map(({ debit }) => debit.environmentId),
    movements.map(({ debit }) => debit.kind),
    movements.map(({ credit }) => credit.environmentId),
    movements.map(({ credit }) => credit.kind),
    movements.map(({ currency }) => currency),
    movements.map(({ key }) => key),
    movements.map(({ amount }) => amount),
  ];
}

import { type AuditEvent, type Database, type Sql, writeBatch } from '../../db/index.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { CredentialId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { findLiveGrantors } from './clients.sql.ts';
import { insertFamilies, type RefreshFamily } from './refresh-families.sql.ts';

/** A grant that is decided on what a process remembers, and not yet written down. */
export interface Grant {
  credentialId: CredentialId;
  /** The version of the agent that it was decided on. */
  agentUpdatedAt: Date;
  family: RefreshFamily;
  audit: AuditEvent;
}

/**
 * Writes grants down: the concurrent ones in one transaction, with an audit event each. In that transaction the credential must still
 * be good and the agent the one that was decided on, so that memory makes it fast and never wrong.
 */
export interface TokenLane {
  /** Resolves once the grant is committed; with false where it isn't, because agent or credential have changed. */
  submit(grant: Grant): Promise<boolean>;
  /** Writes an event that changes nothing else, such as a refusal, in the same transactions. */
  note(audit: AuditEvent): Promise<void>;
  /** Resolves when all that came before has been written. */
  idle(): Promise<void>;
}

interface Waiting {
  grant: Grant | undefined;
  audit: AuditEvent;
  resolve(committed: boolean): void;
  reject(error: unknown): void;
}

export function createTokenLane(context: { db: Database; clock: Clock }): TokenLane {
  const queue: Waiting[] = [];
  let running: Promise<void> | undefined;

  function add(audit: AuditEvent, grant?: Grant): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    queue.push({ grant, audit, resolve, reject });
    running ??= drain();
    return promise;
  }

  async function drain(): Promise<void> {
    // Callers of the same turn of the event loop come along.
    await new Promise((resolve) => setImmediate(resolve));
    while (queue.length > 0) {
      const batch = queue.splice(0, limits.tokenBatch);
      try {
        const committed = await writeBatch(context, (sql, now) => applyBatch(sql, now, batch));
        for (const one of batch) one.resolve(committed.has(one));
      } catch (error) {
        for (const one of batch) one.reject(error);
      }
    }
    running = undefined;
  }

  return {
    submit: (grant) => add(grant.audit, grant),
    async note(audit) {
      await add(audit);
    },
    async idle() {
      await running;
    },
  };
}

async function applyBatch(
  sql: Sql,
  now: Date,
  batch: readonly Waiting[],
): Promise<{ result: Set<Waiting>; audits: AuditEvent[] }> {
  const grants = batch.flatMap(({ grant }) => grant ?? []);
  const live =
    grants.length > 0
      ? await findLiveGrantors(
          sql,
          grants.map(({ credentialId }) => credentialId),
          now,
        )
      : undefined;
  const isGood = ({ grant }: Waiting) =>
    !grant || live?.get(grant.credentialId)?.getTime() === grant.agentUpdatedAt.getTime();
  const good = batch.filter(isGood);
  await insertFamilies(
    sql,
    good.flatMap(({ grant }) => grant?.family ?? []),
  );
  return { result: new Set(good), audits: good.map(({ audit }) => audit) };
}

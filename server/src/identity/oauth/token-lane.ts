import { type AuditEvent, type Database, writeBatch, writeStatement } from '../../db/index.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { CredentialId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { familyValues, grantTables, type RefreshFamily } from './refresh-families.sql.ts';

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
  grant?: Grant;
  audit: AuditEvent;
  resolve(committed: boolean): void;
  reject(error: unknown): void;
}

type GrantWaiting = Waiting & { grant: Grant };

function isGrant(one: Waiting): one is GrantWaiting {
  return one.grant !== undefined;
}

/** Gives everyone of a batch their outcome. */
async function settle<One extends Waiting>(
  batch: readonly One[],
  commit: (batch: readonly One[]) => Promise<ReadonlySet<One>>,
): Promise<void> {
  if (batch.length === 0) return;
  try {
    const committed = await commit(batch);
    for (const one of batch) one.resolve(committed.has(one));
  } catch (error) {
    for (const one of batch) one.reject(error);
  }
}

export function createTokenLane(context: { db: Database; clock: Clock }): TokenLane {
  const queue: Waiting[] = [];
  let running: Promise<void> | undefined;

  function add(audit: AuditEvent, grant?: Grant): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    queue.push({ audit, resolve, reject, ...(grant ? { grant } : {}) });
    running ??= drain();
    return promise;
  }

  async function drain(): Promise<void> {
    // Callers of the same turn of the event loop come along.
    await new Promise((resolve) => setImmediate(resolve));
    while (queue.length > 0) {
      const batch = queue.splice(0, limits.tokenBatch);
      await Promise.all([
        settle(batch.filter(isGrant), (grants) => commitGrants(context, grants)),
        settle(
          batch.filter((one) => !isGrant(one)),
          (notes) => writeNotes(context, notes),
        ),
      ]);
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

async function commitGrants(
  context: { db: Database; clock: Clock },
  batch: readonly GrantWaiting[],
): Promise<Set<GrantWaiting>> {
  const families = batch.map(({ grant }) => grant.family);
  const positions = await writeStatement(
    context,
    {
      name: 'grant_tokens',
      tables: grantTables,
      values: [...familyValues(families), batch.map(({ grant }) => grant.agentUpdatedAt)],
    },
    batch.map(({ audit }) => audit),
  );
  return new Set(batch.filter((_, index) => positions.has(index + 1)));
}

async function writeNotes(
  context: { db: Database; clock: Clock },
  batch: readonly Waiting[],
): Promise<Set<Waiting>> {
  const audits = batch.map(({ audit }) => audit);
  return writeBatch(context, async () => ({ result: new Set(batch), audits }));
}

import type { Database } from '../../db/index.ts';
import type { Clock } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { type Client, findClient } from './clients.sql.ts';

/** Clients by name, remembered for the hot path. What is remembered is believed only until it is written down: see `TokenLane`. */
export interface Clients {
  /** What is remembered under the name, if anything is. */
  recall(name: string): Client | undefined;
  /** Looks it up and remembers it; not again for a second where it wasn't there. */
  look(name: string): Promise<Client | undefined>;
  /** Whatever is known of the agent is old: by agent id, or of all where none is named. */
  forget(agentId?: string): void;
}

/** A name that isn't there may be registered the next moment, and by another process. */
const unknownMs = 1_000;

interface Remembered {
  client: Client | undefined;
  /** Of a name that wasn't there. */
  until: number;
}

export function createClients(context: { db: Database; clock: Clock }): Clients {
  const byName = new Map<string, Remembered>();
  const clientIds = new Map<string, string>();
  let forgotten = 0;

  function remember(name: string, entry: Remembered): void {
    byName.delete(name);
    byName.set(name, entry);
    if (entry.client) clientIds.set(entry.client.agentId, entry.client.clientId);
    // A Map keeps the order of insertion: the first is the one that was looked up the longest ago.
    for (const [oldest, { client }] of byName) {
      if (byName.size <= limits.clientsRemembered) break;
      byName.delete(oldest);
      if (client) forgetAgent(client.agentId);
    }
  }

  /** Under both of its names. */
  function forgetAgent(agentId: string): void {
    byName.delete(agentId);
    byName.delete(clientIds.get(agentId) ?? '');
    clientIds.delete(agentId);
  }

  return {
    recall: (name) => byName.get(name)?.client,
    async look(name) {
      const now = context.clock.now();
      const known = byName.get(name);
      if (known && !known.client && now.getTime() < known.until) return undefined;
      const before = forgotten;
      const client = await findClient(context.db, name, now);
      const until = client ? Number.POSITIVE_INFINITY : now.getTime() + unknownMs;
      // What changed while it was read may have been read before the change.
      if (before === forgotten && isName(name)) remember(name, { client, until });
      return client;
    },
    forget(agentId) {
      forgotten += 1;
      if (agentId === undefined || agentId === '') {
        byName.clear();
        clientIds.clear();
        return;
      }
      forgetAgent(agentId);
    },
  };
}

/** Long names are never ours, and would only fill the memory. */
function isName(name: string): boolean {
  return name.length <= 40;
}

import type pg from 'pg';
import type { Database } from './database.ts';

export interface Listener {
  close(): Promise<void>;
}

const reconnectMs = 500;

/**
 * Calls back for each NOTIFY on the channels. A notification can be lost while the connection is down, so that
 * whoever listens polls as well; after a reconnection each channel is called once with an empty payload.
 */
export function listen(
  db: Database,
  channels: Readonly<Record<string, (payload: string) => void>>,
  onError: (error: Error) => void,
): Listener {
  let closed = false;
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;

  async function open(): Promise<void> {
    try {
      const next = await db.connect();
      if (closed) return await next.end();
      client = next;
      next.on('notification', (message) => channels[message.channel]?.(message.payload ?? ''));
      next.on('error', onError);
      next.on('end', retry);
      for (const channel of Object.keys(channels)) await next.query(`LISTEN ${channel}`);
      for (const callback of Object.values(channels)) callback('');
    } catch (error) {
      onError(error as Error);
      retry();
    }
  }

  function retry(): void {
    if (closed) return;
    clearTimeout(timer);
    timer = setTimeout(() => void open(), reconnectMs);
  }

  void open();
  return {
    async close() {
      closed = true;
      clearTimeout(timer);
      await client?.end();
    },
  };
}

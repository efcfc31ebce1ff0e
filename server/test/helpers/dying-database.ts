import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** Stands before a database, and says on a connection's first readiness, in the same packet, that the server has ended. */
export interface DyingDatabase {
  /** The database's URL, by way of this. */
  url: string;
  close(): Promise<void>;
}

/** ReadyForQuery, outside a transaction (PostgreSQL 18, 54.7 "Message Formats"). */
const readyForQuery = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

/** Starts one that lets its first `deaths` connections die, and those that follow live. */
export async function startDyingDatabase(url: string, deaths: number): Promise<DyingDatabase> {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  let left = deaths;
  const server: Server = createServer((near) => {
    const far = connect(Number(port), hostname);
    const dies = left-- > 0;
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => [near, far].forEach((one) => one.destroy()));
    }
    near.pipe(far);
    far.on('data', (chunk: Buffer) => {
      if (dies && chunk.subarray(-readyForQuery.length).equals(readyForQuery))
        near.end(Buffer.concat([chunk, goodbye()]));
      else near.write(chunk);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const own = new URL(url);
  own.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: own.href,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** What a backend says when it finds its postmaster gone. */
function goodbye(): Buffer {
  const fields = ['SFATAL', 'VFATAL', 'C57P01', 'Mterminating connection due to unexpected postmaster exit'];
  const body = Buffer.from(`${fields.join('\0')}\0\0`);
  const head = Buffer.from('E\0\0\0\0', 'latin1');
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';

/** What came back, whole. */
export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- tests look into answers of every shape
  json(): any;
}

export interface Sending {
  method?: string;
  /** A value may be a list: the header is then sent that many times. */
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
  /** The loopback address to call from. */
  from?: string;
  /** Cuts the connection, as a client that leaves. */
  signal?: AbortSignal;
}

/**
 * Sends one request over a connection of its own, byte for byte as it is given: unlike `fetch`, it lets a test choose Host,
 * duplicate headers and the address that it calls from. `localhost` is 127.0.0.1 here, so that a caller has one address.
 */
export async function send(url: string, sending: Sending = {}): Promise<Answer> {
  const { method = 'GET', headers = {}, body, from = '127.0.0.1', signal } = sending;
  const { port, host } = new URL(url);
  const outgoing = request({
    host: '127.0.0.1',
    port,
    localAddress: from,
    // Not the URL's own path: that would be normalised.
    path: url.slice(url.indexOf('/', 'http://'.length)),
    method,
    headers: {
      host,
      ...(body === undefined || headers['transfer-encoding']
        ? {}
        : { 'content-length': String(Buffer.byteLength(body)) }),
      ...headers,
    },
    agent: false,
    ...(signal ? { signal } : {}),
  });
  outgoing.end(body);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text,
    json: () => JSON.parse(text),
  };
}

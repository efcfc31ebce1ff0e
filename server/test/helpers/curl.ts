import { once } from 'node:events';
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Answer } from './request.ts';

/** A request as a curl command says it. */
interface CurlRequest {
  url: string;
  method: string;
  headers: Record<string, string>;
  body: string | undefined;
}

/** Reads a curl command as a shell and curl do, as far as the seeds go: quotes, line ends, -X, -H and -d. */
function parseCurl(command: string): CurlRequest {
  const [name, ...words] = splitWords(command);
  if (name !== 'curl') throw new Error(`not a curl command: ${command}`);
  const headers: Record<string, string> = {};
  let [url, method, body] = [undefined, undefined, undefined] as (string | undefined)[];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (!word.startsWith('-')) {
      url = word;
      continue;
    }
    const value = words.shift() ?? '';
    if (word === '-X') method = value;
    else if (word === '-d') body = value;
    else if (word === '-H') {
      const colon = value.indexOf(':');
      headers[value.slice(0, colon).toLowerCase()] = value.slice(colon + 1).trim();
    } else throw new Error(`unknown option ${word}`);
  }
  if (url === undefined) throw new Error('a curl command without a URL');
  return { url, method: method ?? (body === undefined ? 'GET' : 'POST'), headers, body };
}

/** Sends what the command says, over a connection of its own. `ca` is the certificate that its TLS is trusted with. */
export async function runCurl(
  command: string,
  options: { ca?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const request = parseCurl(command);
  const headers = { 'user-agent': 'curl/8.5.0', accept: '*/*', ...request.headers, ...options.headers };
  return sendRequest({ ...request, headers }, options);
}

/** Sends a request over http or https, whose certificate has to be `ca`. */
export async function sendRequest(
  { url, method, headers, body }: CurlRequest,
  options: { ca?: string; localAddress?: string },
): Promise<Answer> {
  const isTls = url.startsWith('https:');
  const outgoing = (isTls ? requestHttps : requestHttp)(url, {
    method,
    headers: {
      ...headers,
      ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
    },
    agent: false,
    family: 4,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
  });
  outgoing.end(body);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  return { status: response.statusCode ?? 0, headers: response.headers, text, json: () => JSON.parse(text) };
}

/** A shell's words: 'as it is', "as it is, but \" and \\", and a backslash before a line end joins the lines. */
function splitWords(command: string): string[] {
  const words: string[] = [];
  const parts = /\s+|'([^']*)'|"((?:[^"\\]|\\.)*)"|\\\n|([^\s'"\\]+)/gy;
  let open: string | undefined;
  for (const [whole, single, double, bare] of command.trim().matchAll(parts)) {
    const text = single ?? double?.replaceAll(/\\(["\\])/g, '$1') ?? bare;
    if (text !== undefined) open = (open ?? '') + text;
    else if (whole !== '\\\n' && open !== undefined) {
      words.push(open);
      open = undefined;
    }
  }
  return open === undefined ? words : [...words, open];
}

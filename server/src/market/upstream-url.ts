import { isIP } from 'node:net';
import { AppError } from '../kernel/errors.ts';

/**
 * Reads a server's base URL. Whether its host may be dialled is judged at each dial, on the address itself; an address
 * written out is judged here as well, so that its owner hears of it at once. Throws `invalid_request`.
 */
export function parseBaseUrl(text: string, mayDial: (address: string) => boolean): string {
  const url = URL.parse(text);
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:'))
    throw refused('must be an http or https URL');
  if (url.username !== '' || url.password !== '')
    throw refused('must not carry a user or password; use a static header');
  if (url.search !== '' || url.hash !== '')
    throw refused('must have no query or fragment; the private path may have a query');
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (isIP(host) !== 0 && !mayDial(host)) {
    throw refused(
      'names an address that is not public; the operator may allow it with CREDENCE_EGRESS_ALLOW',
    );
  }
  // An empty query or fragment leaves its mark in the text otherwise.
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

/** A path of an endpoint: from the root, in the form in which it will be matched and sent. Throws `invalid_request`. */
export function parsePath(text: string, field: string, options: { query: boolean }): string {
  const [path = '', ...rest] = text.split('?');
  const plain =
    path.startsWith('/') && !/[\s\\#]/.test(text) && URL.parse(path, 'http://x')?.pathname === path;
  if (!plain || path.includes('//'))
    throw new AppError('invalid_request', `${field} must be a plain path such as "/weather"`);
  if (rest.length > 0 && !options.query) throw new AppError('invalid_request', `${field} must have no query`);
  return path === '/' || !path.endsWith('/') ? text : [path.replace(/\/$/, ''), ...rest].join('?');
}

function refused(reason: string): AppError {
  return new AppError('invalid_request', `base_url ${reason}`);
}

import type { RawHeaders } from './headers.ts';

/** RFC 9112 section 6.3, rule 1. */
export function hasBody(method: string, status: number): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 304;
}

/** What the headers declare. Node's parser has refused a length that is no number, or that differs from another. */
export function contentLength(headers: RawHeaders): string | undefined {
  const index = headers.findIndex((name, at) => at % 2 === 0 && name.toLowerCase() === 'content-length');
  return index === -1 ? undefined : headers[index + 1];
}

import type { RawHeaders } from './headers.ts';

/** RFC 9112 section 6.3, rule 1. */
export function hasBody(method: string, status: number): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 304;
}

/** What the headers declare. Node's parser has refused a length that is no number, or that differs from another. */
export function contentLength(headers: RawHeaders): string | undefined {
  return findHeader(headers, 'content-length');
}

/** The length as a header of our own, if one was declared. */
export function declaredLength(headers: RawHeaders): string[] {
  const length = contentLength(headers);
  return length === undefined ? [] : ['content-length', length];
}

/** Server-sent events, whatever the media type's parameters are. */
export function isEventStream(headers: RawHeaders): boolean {
  const [mediaType = ''] = (findHeader(headers, 'content-type') ?? '').split(';', 1);
  return mediaType.trim().toLowerCase() === 'text/event-stream';
}

/** The first value of a header; `name` in lower case. */
function findHeader(headers: RawHeaders, name: string): string | undefined {
  const index = headers.findIndex((text, at) => at % 2 === 0 && text.toLowerCase() === name);
  return index === -1 ? undefined : headers[index + 1];
}

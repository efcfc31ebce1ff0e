/** What JSON can say. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** JSON with sorted keys, so that two spellings of one body have one fingerprint. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    member !== null && typeof member === 'object' && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).toSorted(([left], [right]) => (left < right ? -1 : 1)))
      : member,
  );
}

/** Keeps bigint and Date through storage; plain JSON otherwise. Read back with `parseTyped`. */
export function stringifyTyped(value: unknown): string {
  return JSON.stringify(value, function (this: Record<string, unknown>, key: string, member: unknown) {
    // A Date arrives here as its toJSON() string; the holder still has the Date.
    if (this[key] instanceof Date) return { $date: member };
    return typeof member === 'bigint' ? { $bigint: member.toString() } : member;
  });
}

export function parseTyped(text: string): unknown {
  return JSON.parse(text, (_key, member: unknown) => {
    if (member === null || typeof member !== 'object') return member;
    if ('$date' in member && typeof member.$date === 'string') return new Date(member.$date);
    if ('$bigint' in member && typeof member.$bigint === 'string') return BigInt(member.$bigint);
    return member;
  });
}

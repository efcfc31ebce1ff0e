/** What JSON can say. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export interface JsonObject {
  readonly [key: string]: Json;
}

/** JSON with sorted keys, so that two spellings of one body have one fingerprint. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    member !== null && typeof member === 'object' && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).toSorted(([left], [right]) => (left < right ? -1 : 1)))
      : member,
  );
}

const marks = ['$bigint', '$date', '$plain'];

/** Keeps bigint and Date through storage; plain JSON otherwise. Read back with `parseTyped`. */
export function stringifyTyped(value: unknown): string {
  return JSON.stringify(value, function (this: Record<string, unknown>, key: string, member: unknown) {
    // A Date arrives here as its toJSON() string; the holder still has the Date.
    if (this[key] instanceof Date) return { $date: member };
    if (typeof member === 'bigint') return { $bigint: member.toString() };
    // Somebody's own member of such a name is kept as a list of members, so that it isn't taken for a mark of ours.
    if (isMarked(member)) return { $plain: Object.entries(member) };
    return member;
  });
}

export function parseTyped(text: string): unknown {
  return JSON.parse(text, (_key, member: unknown) => {
    if (!isMarked(member)) return member;
    if (typeof member['$date'] === 'string') return new Date(member['$date']);
    if (typeof member['$bigint'] === 'string') return BigInt(member['$bigint']);
    return Object.fromEntries(member['$plain'] as [string, unknown][]);
  });
}

function isMarked(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && marks.some((mark) => Object.hasOwn(value, mark));
}

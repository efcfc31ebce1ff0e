/** A copy with another value at one place, named by its keys with dots between; without that place, where the value is undefined. */
export function withPlace(whole: object, path: string, value: unknown): Record<string, unknown> {
  const copy = structuredClone(whole) as Record<string, unknown>;
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  const place = keys.reduce((inner, key) => inner[key] as Record<string, unknown>, copy);
  if (value === undefined) delete place[last];
  else place[last] = value;
  return copy;
}

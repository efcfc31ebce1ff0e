/**
 * A list as the text of a PostgreSQL array, where that is the text of a JSON one but for its brackets; else the list itself, for the driver to
 * write. The driver looks at each element twice, and leaves kilobytes of garbage behind for each row of a batch.
 */
export function arrayText(value: unknown): unknown {
  if (!Array.isArray(value) || !value.every(isPlain)) return value;
  const json = JSON.stringify(value);
  // Both quote alike, and both escape a quote and a backslash by a backslash; PostgreSQL knows no other escape.
  return /\\[^"\\]/.test(json) ? value : `{${json.slice(1, -1)}}`;
}

function isPlain(element: unknown): boolean {
  return (
    element === null ||
    typeof element === 'string' ||
    (typeof element === 'number' && Number.isFinite(element))
  );
}

const camelNames = new Map<string, string>();

/** The one place where a row's snake_case becomes camelCase. */
export function camelCase(row: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const name in row) {
    let camel = camelNames.get(name);
    if (camel === undefined) {
      camel = name.replaceAll(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());
      camelNames.set(name, camel);
    }
    result[camel] = row[name];
  }
  return result;
}

/** An upper-case SQLSTATE of a failed statement, or nothing where the failure isn't the database's. */
export function findSqlState(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' && /^[0-9A-Z]{5}$/.test(error.code) ? error.code : undefined;
}

/** Data that can't be stored, or that another transaction stored first: SQLSTATE classes 22 and 23. */
export function isRefused(error: unknown): boolean {
  return /^2[23]/.test(findSqlState(error) ?? '');
}

/** SQLSTATEs that the code distinguishes (PostgreSQL appendix A). */
export const sqlState = {
  uniqueViolation: '23505',
  checkViolation: '23514',
  serializationFailure: '40001',
  deadlockDetected: '40P01',
} as const;

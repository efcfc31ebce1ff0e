import type { FastifyError } from 'fastify';
import { AppError, type ErrorCode } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import { internalError } from './problem.ts';
import { describeFaults } from './schema-faults.ts';

/** Turns whatever a request failed with into the one error type. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const failure = error as Partial<FastifyError>;
  if (failure.validation) {
    const errors = describeFaults(failure.validation);
    const first = errors[0];
    return new AppError(
      'invalid_request',
      first ? `${first.field} ${first.message}` : 'The request is not valid',
      { errors },
    );
  }
  const code = frameworkCodes[failure.code ?? ''];
  if (code) return new AppError(code.code, code.detail);
  if (failure.statusCode === 400) return new AppError('invalid_request', 'The request cannot be read');
  return internalError(error);
}

/**
 * Refuses text that PostgreSQL can't keep: U+0000, and halves of a surrogate pair; and what is nested so deep that nobody could write
 * it as JSON again. Throws `invalid_request` naming the field. Not recursive, as a body may be nested deeper than the stack.
 */
export function refuseUnstorableText(...inputs: unknown[]): void {
  const open = inputs.map((value) => ({ field: '', value, depth: 0 }));
  for (let next = open.pop(); next; next = open.pop()) {
    const { field, value, depth } = next;
    if (depth > limits.bodyDepth)
      throw new AppError('invalid_request', `The body is nested more than ${limits.bodyDepth} deep`);
    if (typeof value === 'string' && !isStorable(value)) {
      const message = 'must not have U+0000 or half a surrogate pair';
      throw new AppError('invalid_request', `${field || 'body'} ${message}`, {
        errors: [{ field: field || 'body', message }],
      });
    }
    if (typeof value !== 'object' || value === null) continue;
    for (const key of Object.keys(value)) {
      const inner = (value as Record<string, unknown>)[key];
      if (typeof inner === 'string' && isStorable(inner)) continue;
      open.push({ field: field ? `${field}.${key}` : key, value: inner, depth: depth + 1 });
    }
  }
}

function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed();
}

const frameworkCodes: Record<string, { code: ErrorCode; detail: string }> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: 'unsupported_media_type',
    detail: 'Send the body as application/json',
  },
  FST_ERR_CTP_BODY_TOO_LARGE: { code: 'payload_too_large', detail: 'The body is larger than 1 MiB' },
  FST_ERR_CTP_INVALID_JSON_BODY: { code: 'invalid_request', detail: 'The body is not valid JSON' },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    code: 'invalid_request',
    detail: 'Content-Length does not match the body',
  },
};

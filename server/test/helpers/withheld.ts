import { expect } from 'vitest';

/** What somebody gets who presents another's payment: that it was used, and nothing of its answer. */
export const withheld = {
  status: 409,
  text: expect.stringMatching(/"code":"payment_already_used".*"This payment was used. Its answer goes to/),
};

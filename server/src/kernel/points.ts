/** A place between two steps that a crash may come between; docs/failure-modes.md says what each leaves behind. */
export type Point =
  | 'verified'
  | 'claimed'
  | 'answered'
  | 'stored'
  | 'examined'
  | 'recording'
  | 'recorded'
  | 'sent'
  | 'mined'
  | 'concluded'
  | 'delivery-taken'
  | 'delivery-ended'
  | 'reserving'
  | 'capturing'
  | 'releasing'
  | 'forgotten'
  | 'undoing'
  | 'undone'
  | 'refund-renewing'
  | 'refund-renewed'
  | 'answering';

/**
 * Does nothing. The crash tests start the program with another module in the place of this one (`imports` in package.json), which can
 * stand still here until it is killed; nothing that this program reads at run time can bring that about.
 */
export function reach(_point: Point): Promise<void> | undefined {
  return undefined;
}

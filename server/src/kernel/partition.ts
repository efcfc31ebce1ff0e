/** Those that fit, and the others, each in their order. */
export function partition<T>(values: readonly T[], fits: (value: T) => boolean): [T[], T[]] {
  const [fitting, others]: [T[], T[]] = [[], []];
  for (const value of values) (fits(value) ? fitting : others).push(value);
  return [fitting, others];
}

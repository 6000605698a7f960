// Objects with optional keys, without those that are undefined: for exactOptionalPropertyTypes, and for JSON, an absent
// key and one that is undefined are two things.

/** The keys of T whose values cannot be undefined, and the others as optional ones. */
export type Defined<T> = { readonly [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  readonly [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/**
 * The same object without the keys whose value is undefined.
 *
 * It costs what the spreads cost that it replaces (measured); where tens of thousands are made, field by field is faster.
 *
 * @example findOwners(jobs, { node, ...defined({ signal }) })
 */
export function defined<T extends object>(values: T): Defined<T>;
export function defined(values: object): object {
  const made: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(values)) if (value !== undefined) made[key] = value;
  return made;
}

// Where something stands in a file of the administrator's, kept with the value and named in messages about it.

/** Where something is said. */
export interface SourceLine {
  readonly file: string;
  /** 1-based; of a continued line the first. */
  readonly line: number;
}

/** Where something is set, for people: ` (/etc/slurm/slurm.conf:12)`. */
export function at(place: SourceLine | undefined): string {
  return place === undefined ? '' : ` (${place.file}:${place.line})`;
}

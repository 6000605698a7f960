// Which of Slurm's programs an executable is. Distributions install them under names of their own.

/**
 * The name of a program by its path: `/usr/sbin/slurmstepd-wlm` → `slurmstepd` (Debian's alternatives; measured,
 * all four releases), `/usr/sbin/sshd` → `sshd`.
 */
export function programName(file: string): string {
  const name = file.slice(file.lastIndexOf('/') + 1);
  return /^(slurmd|slurmstepd)-[\w.+-]+$/.exec(name)?.[1] ?? name;
}

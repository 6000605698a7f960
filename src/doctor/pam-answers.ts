// What modules of PAM answer for a user who may log in: known where it follows from what the module is for, else both
// answers are possible. Pure. Sources: the modules of Linux-PAM 1.7, sssd's and pam_ldap's manual pages.

import { actionOf, type PamAnswer } from './pam-control.js';
import type { PamLine } from './pam-stack.js';

/** Where a user's account is: what pam_localuser and pam_sss part. Both have a uid of people, 1000 or above. */
export type UserKind = 'local' | 'directory';

/** `chosen`: success for some users, failure for others, as a list or a program of the site says. */
export type ExpectedAnswer = PamAnswer | 'chosen';

/** Modules that only know the accounts of a directory service. */
const directories: ReadonlySet<string> = new Set(
  'pam_sss pam_ldap pam_ldapd pam_winbind pam_lsass pam_lwidentity pam_centrifydc pam_vas3 pam_oslogin_login'.split(
    ' ',
  ),
);
/** Modules that refuse no user who may log in; the value is their usual answer. */
const harmless: ReadonlyMap<string, PamAnswer> = new Map([
  ...'pam_unix pam_unix2 pam_permit pam_env pam_faillock pam_tally2 pam_limits pam_loginuid pam_mkhomedir pam_oddjob_mkhomedir pam_motd pam_mail pam_lastlog pam_lastlog2 pam_systemd pam_elogind pam_selinux pam_keyinit pam_umask pam_namespace pam_krb5'
    .split(' ')
    .map((name) => [name, 'success'] as const),
  ['pam_nologin', 'ignore'],
]);

/** The answer of a module other than an adopter. */
export function expectedAnswer({ module, args }: Pick<PamLine, 'module' | 'args'>, kind: UserKind): ExpectedAnswer {
  const usual = harmless.get(module);
  if (usual !== undefined) return usual;
  if (directories.has(module)) {
    if (kind === 'directory') return 'success';
    return args.includes('ignore_unknown_user') ? 'ignore' : 'user_unknown';
  }
  switch (module) {
    case 'pam_deny':
    case 'pam_rootok':
      return 'auth_err';
    case 'pam_localuser':
      return kind === 'local' ? 'success' : 'perm_denied';
    case 'pam_usertype':
      return args.includes('isregular') ? 'success' : args.includes('issystem') ? 'auth_err' : 'chosen';
    case 'pam_succeed_if':
      return succeedsIf(args);
    default:
      return 'chosen';
  }
}

/** All conditions must hold; those on the uid and the service are known for people who come by ssh. */
function succeedsIf(args: readonly string[]): ExpectedAnswer {
  const words = args.filter((word) => !/^(?:debug|use_uid|audit|quiet(?:_fail|_success)?)$/.test(word));
  let all: ExpectedAnswer = 'success';
  for (let at = 0; at + 2 < words.length; at += 3) {
    const holds = condition(words[at] ?? '', words[at + 1] ?? '', words[at + 2] ?? '');
    if (holds === false) return 'auth_err';
    if (holds === undefined) all = 'chosen';
  }
  return words.length === 0 ? 'chosen' : all;
}

/** UID_MIN of most distributions; what is compared with a greater number depends on the user. */
const leastUid = 1000;

function condition(what: string, how: string, value: string): boolean | undefined {
  if (what === 'uid' && /^\d+$/.test(value)) return uidCondition(how, Number(value));
  if (what === 'user' && value === 'root') return { '=': false, '!=': true }[how];
  if (what !== 'service') return undefined;
  const isOne = value.split(':').includes('sshd');
  if (how === '=' || how === 'in') return isOne;
  return how === '!=' || how === 'notin' ? !isOne : undefined;
}

/** For a uid of 1000 or above. */
function uidCondition(how: string, value: number): boolean | undefined {
  switch (how) {
    case '<':
    case 'lt':
      return value <= leastUid ? false : undefined;
    case '<=':
    case 'le':
    case '=':
    case 'eq':
      return value < leastUid ? false : undefined;
    case '>':
    case 'gt':
      return value < leastUid ? true : undefined;
    case '>=':
    case 'ge':
      return value <= leastUid ? true : undefined;
    case '!=':
    case 'ne':
      return value < leastUid ? true : undefined;
    default:
      return undefined;
  }
}

/** The answers of a line that are to be tried, the one by which a user just goes on first. */
export function answersToTry({ control }: PamLine, expected: ExpectedAnswer): readonly PamAnswer[] {
  if (expected !== 'chosen') return [expected];
  const goesOn = ['ok', 'ignore'].includes(String(actionOf(control, 'success')));
  return goesOn ? ['success', 'perm_denied'] : ['perm_denied', 'success'];
}

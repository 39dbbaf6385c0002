/**
 * The DID and the key that a client meant, where its connection URL was cut in the wrong place.
 *
 * nodemailer 6, which PDSes use, decodes the URL before it cuts user and password at the first colon. So
 * `smtps://did%3Aplc%3Aabc:KEY@…` logs in as `did` with the password `plc:abc:KEY`. No other login looks so.
 */
export function wholeLogin(user: string, password: string): { user: string; password: string } {
  const cut = password.lastIndexOf(':');
  if (user !== 'did' || cut < 0) return { user, password };
  return { user: `did:${password.slice(0, cut)}`, password: password.slice(cut + 1) };
}

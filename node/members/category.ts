/**
 * What a message is for. Chosen by the message, else by the API key, else by the domain; bulk when
 * nobody chose. The words are the contract with members (X-Atmos-Category, `category` of the send API).
 */

export const categories = [
  'login-link',
  'password-reset',
  'mfa-otp',
  'verification',
  'transactional',
  'bulk',
] as const;

export type Category = (typeof categories)[number];

/** @returns undefined for a word that is not a category */
export function parseCategory(text: string): Category | undefined {
  const word = text.trim().toLowerCase();
  return categories.find((category) => category === word);
}

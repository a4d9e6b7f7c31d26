/** The bytes of a base64 text (RFC 4648). Throws where it is none. */
export function bytesOfBase64(base64: string): Uint8Array {
  const chars = atob(base64);
  const bytes = new Uint8Array(chars.length);
  for (let i = 0; i < chars.length; i++) bytes[i] = chars.charCodeAt(i);
  return bytes;
}

/** Names of interfaces, at most 15 bytes, without `/`, `:` and white space; and of hops. */

/** The smallest free `nsm-<n>`, as Meridio's TAPA names them. */
export const byCounter = (used: ReadonlySet<string>): string => {
  let n = 0
  while (used.has(`nsm-${n}`)) n++
  return `nsm-${n}`
}

/**
 * The first 10 characters of the service, a dash, and of the random text what fits into 15. Load balancers know their
 * interfaces by the part before the dash. Source: sdk-kernel, `kernelmech`.
 */
export const byService = (networkService: string, random: string): string =>
  `${networkService.slice(0, 10)}-${random}`.replaceAll(/[^!-.0-9;-~]/g, "_").slice(0, 15)

/** The name of the forwarder that is part of a manager: a hop of its own in the path, as peers of upstream expect it. */
export const forwarder = (manager: string): string => `${manager}-forwarder`

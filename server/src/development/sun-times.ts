/** When the sun rises and sets, in UTC; `null` where it does neither that day. */
export interface SunTimes {
  sunrise: Date | null;
  sunset: Date | null;
}

const radians = Math.PI / 180;
const dayMs = 86_400_000;
/** Days from 1970-01-01 to the epoch J2000.0, 2000-01-01 12:00 UTC. */
const j2000Days = 10_957.5;

/**
 * The sunrise equation (Meeus, Astronomical Algorithms, chapters 15 and 25, low accuracy): good to a few minutes.
 * Latitude north and longitude east, in degrees.
 */
export function sunTimes(latitude: number, longitude: number, day: Date): SunTimes {
  const noon = Math.round(day.getTime() / dayMs - j2000Days) - longitude / 360;
  const anomaly = (357.5291 + 0.985_600_28 * noon) * radians;
  const center = 1.9148 * Math.sin(anomaly) + 0.02 * Math.sin(2 * anomaly) + 0.0003 * Math.sin(3 * anomaly);
  const eclipticLongitude = anomaly + (center + 180 + 102.9372) * radians;
  const transit = noon + 0.0053 * Math.sin(anomaly) - 0.0069 * Math.sin(2 * eclipticLongitude);
  const declination = Math.asin(Math.sin(eclipticLongitude) * Math.sin(23.4397 * radians));

  // The disc's upper edge, through refraction: 0.833 degrees below the horizon.
  const altitude = Math.sin(-0.833 * radians) - Math.sin(latitude * radians) * Math.sin(declination);
  const cosine = altitude / (Math.cos(latitude * radians) * Math.cos(declination));
  if (Math.abs(cosine) > 1) return { sunrise: null, sunset: null };
  const half = Math.acos(cosine) / (2 * Math.PI);
  const toDate = (days: number) => new Date(Math.round((days + j2000Days) * 86_400) * 1000);
  return { sunrise: toDate(transit - half), sunset: toDate(transit + half) };
}

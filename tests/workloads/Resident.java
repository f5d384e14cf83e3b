// `warm` has its method compiled; `touch MIB` allocates arrays in it, in two halves; `half` drops one
// of them and asks for a collection, after which the collector gives memory back.

import java.io.BufferedReader;
import java.io.InputStreamReader;

public class Resident {
    static byte[][] kept;
    static byte[][] dropped;
    static byte[] last;

    // The runtime writes zeroes to the array, on behalf of this method.
    static byte[] touchInJava(int bytes) {
        byte[] area = new byte[bytes];
        area[bytes / 2] = 1;
        return area;
    }

    // With its header an array fills whole regions of the heap: the collector gives each its own, and a
    // byte too many touches a page of the next one, which may be huge.
    static final int HEADER = 16;

    static byte[][] many(int mib) {
        byte[][] areas = new byte[mib / 8][];
        for (int at = 0; at < areas.length; at++) {
            areas[at] = touchInJava((8 << 20) - HEADER);
        }
        return areas;
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("ready");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (line.equals("warm")) {
                for (int round = 0; round < 100_000; round++) {
                    last = touchInJava(16);
                }
            } else if (line.startsWith("touch ")) {
                int mib = Integer.parseInt(line.substring(6));
                kept = many(mib / 2);
                dropped = many(mib / 2);
            } else {
                dropped = null;
                System.gc();
            }
            System.out.println("done");
        }
        System.out.println(kept.length + last.length);
    }
}

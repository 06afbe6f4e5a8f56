import "./ism_large_test.ts";
import "./ism_leftovers_test.ts";
import "./ism_test.ts";

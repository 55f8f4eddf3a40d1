"""The workers that are alive, according to the database. Their own code is the package `workers`."""

"""The workers that are alive, as the database knows them. Their own code is the package `workers`."""

"""What a network of stations measures, declared once: everything else reads columns, units, limits and roles here."""
